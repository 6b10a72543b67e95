"""Imported before numpy by whatever starts a process of this package: its BLAS shall not share work between threads.

Our matrices are small. Handing one to a second thread saves nothing, and OpenBLAS keeps that thread spinning between
calls: a core of the robot doing nothing, and rendering processes side by side at less than half their speed. Networks
have threads of their own. A value that the user has set is kept.
"""
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
