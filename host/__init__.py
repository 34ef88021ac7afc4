"""What this machine is: memory and its pressure, processor, accelerator, BLAS."""
