"""The step's products with sparse codes as Triton kernels, for GPUs; nothing here is loaded on a CPU."""
