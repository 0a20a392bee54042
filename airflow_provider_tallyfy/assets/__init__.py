"""Assets: what Airflow knows of processes and templates in Tallyfy."""
