"""What the model is given, computed of what a client sends."""


def price_per_room(house):
    return house["price"] / house["rooms"]
