"""Devices, processes, storage and signals."""
