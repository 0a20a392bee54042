"""Programs for developers: a real Airflow, the demo, the pictures in the README. None is installed."""
