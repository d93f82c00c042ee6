"""A folder, a hub name or the built-in model: its config, its tokenizer files, its tensors by name, mapped.

checkpoint         `open_checkpoint`: files, names and shapes
config             `config.json`, checked
hub                from a name to a folder
safetensors_file   the mapped reader
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.checkpoint.checkpoint import (
        Checkpoint as Checkpoint,
        encoder_shapes as encoder_shapes,
        head_shapes as head_shapes,
        open_checkpoint as open_checkpoint,
        read_json as read_json,
    )
    from numroberta.checkpoint.config import (
        CheckpointError as CheckpointError,
        ConfigError as ConfigError,
        RobertaConfig as RobertaConfig,
        show as show,
    )
    from numroberta.checkpoint.hub import HUB_FILES as HUB_FILES, find_folder as find_folder
    from numroberta.checkpoint.safetensors_file import (
        map_safetensors as map_safetensors,
        read_safetensors as read_safetensors,
    )

__getattr__, __dir__ = door(
    __name__,
    {
        "checkpoint": (
            "Checkpoint",
            "open_checkpoint",
            "read_json",
            "encoder_shapes",
            "head_shapes",
        ),
        "config": (
            "CheckpointError",
            "ConfigError",
            "RobertaConfig",
            "show",
        ),
        "hub": (
            "HUB_FILES",
            "find_folder",
        ),
        "safetensors_file": (
            "map_safetensors",
            "read_safetensors",
        ),
    },
)
