"""Offline evaluation: data sets and bags through the robot's pipeline, metrics, report. Start at evaluate.py."""
