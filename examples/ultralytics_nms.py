"""pyrcnn's NMS in Ultralytics: the same boxes in less time. ``import ultralytics_nms`` before you predict."""

from ultralytics.utils import nms

from pyrcnn import ops

nms.TorchNMS.nms = staticmethod(ops.nms)
