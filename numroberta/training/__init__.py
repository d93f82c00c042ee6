"""Gradients, optimizer, fine-tuning: a checkpoint of one's own, without PyTorch."""
