"""The zoo: one architecture, one readable file."""

from swiftlet.zoo.card import Card as Card
from swiftlet.zoo.card import card as card
from swiftlet.zoo.card import create_model as create_model
from swiftlet.zoo.card import list_models as list_models
from swiftlet.zoo.card import register as register
from swiftlet.zoo.mobilenet_v1 import mobilenet_v1 as mobilenet_v1
from swiftlet.zoo.mobilenet_v2 import mobilenet_v2 as mobilenet_v2
