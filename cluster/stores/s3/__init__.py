"""Objects in an S3 bucket; all that imports boto3."""
