"""The datacenter kernel: it pools machines and offers their resources to frameworks."""
