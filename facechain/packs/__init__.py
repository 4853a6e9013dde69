"""Models and pictures that are fetched rather than shipped: manifests, licences, downloads."""

from facechain.packs.fetch import Packs, Status, Verified
from facechain.packs.licences import Combination, combination
from facechain.packs.manifest import Licence, Pack, PackFile, read_pack, read_packs

__all__ = [
    "Combination",
    "Licence",
    "Pack",
    "PackFile",
    "Packs",
    "Status",
    "Verified",
    "combination",
    "read_pack",
    "read_packs",
]
