"""The trained winner on disk and back, without pickle."""

from polytask.serving.predictor import Prediction, Predictor, load_predictor, save_predictor

__all__ = ["Prediction", "Predictor", "load_predictor", "save_predictor"]
