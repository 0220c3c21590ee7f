"""Published times of whole networks on one device, the big core of a Pixel 1 with TensorFlow Lite in float32."""

from swiftlet.study.finding import Table

_V2 = "MobileNet V2 paper, table 4"
_SLIM = "tensorflow/models, slim mobilenet README"
_V3 = "MobileNet V3 paper (arXiv v5), table 9"
_MNAS = "tensorflow/tpu, MnasNet README"

PIXEL = Table(
    title="Pixel 1, as published",
    columns=("network", "arguments", "side", "million MACs", "ms", "from"),
    rows=(
        ("mobilenet_v1", "", 224, 575, 113.0, _V2),
        ("mobilenet_v2", "width=1.4", 224, 582, 138.0, _SLIM),
        ("mobilenet_v2", "width=1.3", 224, 509, 123.0, _SLIM),
        ("mobilenet_v2", "", 224, 300, 73.8, _SLIM),
        ("mobilenet_v2", "", 192, 221, 55.1, _SLIM),
        ("mobilenet_v2", "", 160, 154, 40.2, _SLIM),
        ("mobilenet_v2", "", 128, 99, 27.6, _SLIM),
        ("mobilenet_v2", "", 96, 56, 17.6, _SLIM),
        ("mobilenet_v2", "width=0.75", 224, 209, 55.8, _SLIM),
        ("mobilenet_v2", "width=0.75", 192, 153, 41.6, _SLIM),
        ("mobilenet_v2", "width=0.75", 160, 107, 30.4, _SLIM),
        ("mobilenet_v2", "width=0.75", 128, 69, 21.9, _SLIM),
        ("mobilenet_v2", "width=0.75", 96, 39, 14.2, _SLIM),
        ("mobilenet_v2", "width=0.5", 224, 97, 28.7, _SLIM),
        ("mobilenet_v2", "width=0.5", 192, 71, 21.1, _SLIM),
        ("mobilenet_v2", "width=0.5", 160, 50, 14.9, _SLIM),
        ("mobilenet_v2", "width=0.5", 128, 32, 9.9, _SLIM),
        ("mobilenet_v2", "width=0.5", 96, 18, 6.4, _SLIM),
        ("mobilenet_v2", "width=0.35", 224, 59, 19.7, _SLIM),
        ("mobilenet_v2", "width=0.35", 192, 43, 14.6, _SLIM),
        ("mobilenet_v2", "width=0.35", 160, 30, 10.5, _SLIM),
        ("mobilenet_v2", "width=0.35", 128, 20, 6.9, _SLIM),
        ("mobilenet_v2", "width=0.35", 96, 11, 4.5, _SLIM),
        ("mobilenet_v3_large", "width=1.25", 224, 356, 77.0, _V3),
        ("mobilenet_v3_large", "", 224, 217, 51.2, _V3),
        ("mobilenet_v3_large", "width=0.75", 224, 155, 39.8, _V3),
        ("mobilenet_v3_large", "width=0.5", 224, 69, 21.7, _V3),
        ("mobilenet_v3_large", "width=0.35", 224, 40, 15.1, _V3),
        ("mobilenet_v3_large", "", 256, 282, 65.6, _V3),
        ("mobilenet_v3_large", "", 192, 160, 38.0, _V3),
        ("mobilenet_v3_large", "", 160, 112, 27.8, _V3),
        ("mobilenet_v3_large", "", 128, 73, 17.8, _V3),
        ("mobilenet_v3_large", "", 96, 43, 12.5, _V3),
        ("mobilenet_v3_small", "width=1.25", 224, 91, 23.6, _V3),
        ("mobilenet_v3_small", "", 224, 57, 15.8, _V3),
        ("mobilenet_v3_small", "width=0.75", 224, 44, 12.8, _V3),
        ("mobilenet_v3_small", "width=0.5", 224, 21, 7.7, _V3),
        ("mobilenet_v3_small", "width=0.35", 224, 12, 5.7, _V3),
        ("mobilenet_v3_small", "", 256, 74, 20.0, _V3),
        ("mobilenet_v3_small", "", 160, 30, 8.6, _V3),
        ("mobilenet_v3_small", "", 128, 20, 5.8, _V3),
        ("mobilenet_v3_small", "", 96, 12, 4.4, _V3),
        ("mnasnet_a1", "width=1.4", 224, 591.5, 135.0, _MNAS),
        ("mnasnet_a1", "", 224, 315.2, 78.0, _MNAS),
        ("mnasnet_a1", "width=0.75", 224, 226.7, 61.0, _MNAS),
        ("mnasnet_a1", "width=0.5", 224, 105.2, 32.0, _MNAS),
        ("mnasnet_a1", "width=0.35", 224, 63.2, 22.0, _MNAS),
    ),
    source="one device, three sources; V1 was timed for the V2 paper",
)  # fmt: skip
