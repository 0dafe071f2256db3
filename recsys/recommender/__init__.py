"""What answers "what next?": the servable bundle of a trained model."""

from recsys.recommender.recommender import Recommender

__all__ = ["Recommender"]
