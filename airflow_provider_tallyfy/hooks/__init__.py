"""An Airflow connection becomes an authenticated session with Tallyfy."""
