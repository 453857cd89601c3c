"""Nine PyTorch modules as a user would write them, each with a factory and example inputs of batch 3.

Copied beside weights it is also the source that an entry point names (``pytorch_modules:mlp``).
"""

from __future__ import annotations

import torch
from torch import nn

BATCH = 3


class Mlp(nn.Module):
    """Ends in a softmax: its answers are probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.5), nn.Linear(16, 3))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.body(features), dim=1)


class Cnn(nn.Module):
    """Batch normalisation and dropout, which are wrong in training mode; answers raw scores."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.flatten(self.features(image), 1))


class Lstm(nn.Module):
    """Two layers over a sequence; the last step is read."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 12, num_layers=2, batch_first=True)
        self.head = nn.Linear(12, 2)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        steps, _ = self.lstm(sequence)
        return self.head(steps[:, -1])


class Gru(nn.Module):
    """Both directions, and two outputs: the answer for each step and the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 8, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 1)

    def forward(self, sequence: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        steps, state = self.gru(sequence)
        return self.head(steps), torch.cat([state[0], state[1]], dim=1)


class Transformer(nn.Module):
    """An encoder of two layers, mean over the sequence."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, dim_feedforward=32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(sequence).mean(dim=1))


class Text(nn.Module):
    """Token numbers and a mask of the real ones, through an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 12, padding_idx=0)
        self.head = nn.Linear(12, 4)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        kept = mask.unsqueeze(-1).to(torch.float32)
        mean = (self.embedding(tokens) * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1.0)
        return torch.sigmoid(self.head(mean))


class Parts(nn.Module):
    """Several inputs and a dictionary of answers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.body = nn.Linear(6 + 4, 8)
        self.price = nn.Linear(8, 1)
        self.risk = nn.Linear(8, 3)

    def forward(self, numbers: torch.Tensor, category: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = torch.relu(self.body(torch.cat([numbers, self.embedding(category)], dim=1)))
        return {"price": self.price(hidden), "risk": torch.softmax(self.risk(hidden), dim=1)}


class Branch(nn.Module):
    """Which of two layers answers depends on the data: a trace keeps only the one that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Linear(5, 2)
        self.high = nn.Linear(5, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if features.sum() > 0:
            return self.high(features)
        return -self.low(features)


class Loop(nn.Module):
    """A Python loop over the rows of the batch: a trace keeps the number of rows that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(5, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        state = torch.zeros(5)
        answers: list[torch.Tensor] = []
        for row in range(features.shape[0]):
            state = torch.tanh(self.body(features[row]) + 0.5 * state)
            answers.append(self.head(state))
        return torch.stack(answers)


class Choice(nn.Module):
    """The branch as torch.export can keep it: ``torch.cond``."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Linear(5, 2)
        self.high = nn.Linear(5, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cond(features.sum() > 0, lambda x: self.high(x), lambda x: -self.low(x), (features,))


class Packed(nn.Module):
    """Sentences of their own lengths, of which the last state is read."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 6)
        self.body = nn.LSTM(6, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        _, (state, _) = self.body(packed)
        return self.head(state[-1])


MODULES: dict[str, type[nn.Module]] = {
    "mlp": Mlp,
    "cnn": Cnn,
    "lstm": Lstm,
    "gru": Gru,
    "transformer": Transformer,
    "text": Text,
    "parts": Parts,
    "branch": Branch,
    "loop": Loop,
    "choice": Choice,
    "packed": Packed,
}


def make(name: str) -> nn.Module:
    """A module with the same weights in every process, its batch statistics moved off their start, in eval mode."""
    torch.manual_seed(len(name) * 31 + ord(name[0]))
    module = MODULES[name]()
    with torch.no_grad():
        for _ in range(3):
            module.train()(*examples(name))
    return module.eval()


def examples(name: str) -> tuple[torch.Tensor, ...]:
    """Inputs of batch 3 in the order of ``forward``'s parameters."""
    generator = torch.Generator().manual_seed(7)
    if name == "cnn":
        return (torch.randn(BATCH, 3, 12, 12, generator=generator),)
    if name in ("lstm", "gru"):
        return (torch.randn(BATCH, 6, 4, generator=generator),)
    if name == "transformer":
        return (torch.randn(BATCH, 6, 16, generator=generator),)
    if name == "text":
        tokens = torch.randint(0, 50, (BATCH, 9), generator=generator)
        return tokens, tokens > 10
    if name == "packed":
        return torch.randint(0, 50, (BATCH, 7), generator=generator), torch.tensor([7, 2, 4])
    if name == "parts":
        return torch.randn(BATCH, 6, generator=generator), torch.randint(0, 10, (BATCH,), generator=generator)
    return (torch.randn(BATCH, 8 if name == "mlp" else 5, generator=generator),)


# The factories that entry points name.
mlp, cnn, lstm, gru, transformer = Mlp, Cnn, Lstm, Gru, Transformer
text, parts, branch, loop, choice, packed = Text, Parts, Branch, Loop, Choice, Packed
