"""Reasons in filtered.parquet."""

FILTER_REASONS = {"dropped_user": "user in dataset.drop_users", "dropped_item": "item in dataset.drop_items",
                  "after_newest": "after dataset.newest", "before_oldest": "before dataset.oldest",
                  "event_without_weight": "event whose weight is 0",
                  "not_positive": "value of 0 or below; dataset.min_value=0 keeps values of 0",
                  "below_min_value": "value below dataset.min_value",
                  "below_core": "user or item with fewer than dataset.min_*_interactions",
                  "dislike_of_unknown": "dislike whose user or item has no interaction",
                  "in_earlier_split": "held-out pair that is also in an earlier split; split.leaks"}
"""Reason -> meaning, as printed on the audit page. If several apply to a row, the first one counts."""
