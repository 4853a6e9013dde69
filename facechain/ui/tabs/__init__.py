"""Every tab by its id, in the order shown. A tab is one module with `build(shop)` and its phrases."""

from __future__ import annotations

from collections.abc import Callable

from facechain.ui.desk import Shop
from facechain.ui.tabs import create, gallery, models, people, queue, settings, template, train

TABS: dict[str, Callable[[Shop], None]] = {
    "people": people.build,
    "create": create.build,
    "template": template.build,
    "train": train.build,
    "gallery": gallery.build,
    "queue": queue.build,
    "models": models.build,
    "settings": settings.build,
}
