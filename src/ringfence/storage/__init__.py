"""The bytes of documents, behind one interface (`base.py`): a local folder (`local.py`) or a bucket (`s3.py`)."""
