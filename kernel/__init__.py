"""The datacenter kernel: it pools machines and offers their resources to frameworks."""

__version__ = "0.1.0"
