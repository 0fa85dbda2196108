"""Atomic shared contexts for AI-agent workers, on Redis or Valkey."""
