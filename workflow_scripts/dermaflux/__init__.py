"""The library of dermaflux: the thinking behind each stage, in the order of the data.

Modules for tables and images (everything up to the corpus) never import torch, and nothing here imports snakemake.
"""
