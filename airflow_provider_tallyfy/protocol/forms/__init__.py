"""Forms of templates and tasks: plain Python values become what Tallyfy takes, and the other way round."""

from airflow_provider_tallyfy.protocol.forms.fields import (
    read_kickoff_fields,
    read_task_fields,
    stored_values,
)
from airflow_provider_tallyfy.protocol.forms.validation import (
    cut_to_fit,
    encode_kickoff,
    encode_task_values,
    needs_directory,
    read_form,
    read_task_form,
    text_keys,
)

__all__ = [
    "cut_to_fit", "encode_kickoff", "encode_task_values", "needs_directory", "read_form", "read_kickoff_fields",
    "read_task_fields", "read_task_form", "stored_values", "text_keys",
]  # fmt: skip
