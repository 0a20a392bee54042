"""Links from Airflow to Tallyfy."""
