"""Clusters of tasks from one long vector per task, such as their data maps.

``clusters`` puts the parts together: ``distances`` between tasks, hard groups (``kmeans``), soft
ones (``fuzzy``, ``votes``), and how many there are (``num_groups``).
"""
