"""Cells written by hand in PyTorch, from the papers; nothing here knows gategen's parser or calculus."""
