"""Write-back: single-row writes are acknowledged once Redis has them, and applied in batches."""
