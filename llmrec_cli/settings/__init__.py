"""Settings: one light file per config group, free of torch and pandas."""
