"""Models that were saved without their estimators, as estimators of scikit-learn's kind.

XGBoost's and CatBoost's own estimators open most such files themselves.
"""

from __future__ import annotations

from typing import Any

from converters.boosters import lightgbm


class CatBoostScores:
    """Answers what the predict of ``catboost.CatBoost`` itself does: the scores, to which no link is applied."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def n_features_in_(self) -> int:
        """The number of columns."""
        return len(self.model.feature_names_)

    @property
    def feature_names_(self) -> list[str]:
        """The columns' names; their numbers where CatBoost made them up."""
        return list(self.model.feature_names_)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """None; what was chosen in training is in the model."""
        return {}

    def fit(self, x: Any, y: Any) -> CatBoostScores:
        """Not to be called: scikit-learn takes for an estimator only what has this method."""
        raise NotImplementedError("the model is trained")

    def predict(self, x: Any) -> Any:
        """Shape (rows,)."""
        return self.model.predict(x)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        return _regressor_tags()


class LightGBMRegressor:
    """Answers what ``lightgbm.Booster.predict`` does, a ranker's scores too."""

    def __init__(self, booster: Any) -> None:
        self.booster_ = booster

    @property
    def n_features_in_(self) -> int:
        """The number of columns."""
        return int(self.booster_.num_feature())

    @property
    def feature_names_in_(self) -> Any:
        """The columns' names. Raises ``AttributeError`` where LightGBM made them up itself."""
        import numpy as np

        names = self.booster_.feature_name()
        if lightgbm.made_up(names):
            raise AttributeError("trained without names")
        return np.array(names, dtype=object)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """None; what was chosen in training is in the model."""
        return {}

    def fit(self, x: Any, y: Any) -> LightGBMRegressor:
        """Not to be called: scikit-learn takes for an estimator only what has this method."""
        raise NotImplementedError("the model is trained")

    def predict(self, x: Any) -> Any:
        """Shape (rows,), or (rows, scores) where there are several."""
        return self.booster_.predict(x)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        return _regressor_tags()


class LightGBMClassifier(LightGBMRegressor):
    """Answers classes, which a file of LightGBM's only numbers: 0 to n - 1."""

    def __init__(self, booster: Any) -> None:
        import numpy as np

        super().__init__(booster)
        self.classes_ = np.arange(max(2, int(booster.num_model_per_iteration())))

    def predict(self, x: Any) -> Any:
        """The class whose probability is largest, the first of equal ones; shape (rows,)."""
        return self.classes_[self.predict_proba(x).argmax(axis=1)]

    def predict_proba(self, x: Any) -> Any:
        """Shape (rows, classes)."""
        import numpy as np

        found = super().predict(x)
        return found if found.ndim == 2 else np.column_stack([1.0 - found, found])

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.regressor_tags, tags.classifier_tags = "classifier", None, ClassifierTags()
        return tags


def _regressor_tags() -> Any:
    from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

    return Tags(
        estimator_type="regressor",
        target_tags=TargetTags(required=True),
        regressor_tags=RegressorTags(),
        input_tags=InputTags(allow_nan=True),
    )
