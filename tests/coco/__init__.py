"""Tests of files in COCO's format: annotations, results, keypoints, and the joining of classes."""
