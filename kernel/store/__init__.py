"""Durable keys and values behind one interface."""
