"""Airflow assets for processes and templates in Tallyfy."""
