"""Two-tower book recommenders: data, models, training, evaluation, reports."""
