"""A folder, a hub name or the built-in model: its config, its tokenizer files, its tensors by name, mapped.

checkpoint         `open_checkpoint`: names and shapes of tensors
folder             what lies in a folder
config             `config.json`, checked
heads              each head's tensors, their shapes, what it reads
hub                from a name to a folder
names              tensors' names in files and here, and their shapes
safetensors_file   the mapped tensors of a safetensors file
torch_file         the mapped tensors of a file that torch.save wrote
tensor_pickle      what such a file's pickle says, without running it
stored_tensor      where a tensor lies, and its values
writing            safetensors files and whole folders, written
json_file          JSON, with a sentence for what is wrong
surrogates         half characters in a text
errors             what is raised, and how messages quote
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.checkpoint.checkpoint import (
        Checkpoint as Checkpoint,
        open_checkpoint as open_checkpoint,
    )
    from numroberta.checkpoint.config import RobertaConfig as RobertaConfig
    from numroberta.checkpoint.errors import (
        CheckpointError as CheckpointError,
        ConfigError as ConfigError,
        did_you_mean as did_you_mean,
        listed as listed,
        show as show,
    )
    from numroberta.checkpoint.folder import load_tensors as load_tensors
    from numroberta.checkpoint.heads import (
        DECODER as DECODER,
        DECODER_BIAS as DECODER_BIAS,
        HEADS as HEADS,
        MASKED_LM as MASKED_LM,
        POOLER as POOLER,
        SEQUENCE as SEQUENCE,
        SPAN as SPAN,
        TOKEN as TOKEN,
        WORDS as WORDS,
        Head as Head,
        head_shapes as head_shapes,
        heads_among as heads_among,
    )
    from numroberta.checkpoint.hub import HUB_FILES as HUB_FILES, find_folder as find_folder
    from numroberta.checkpoint.json_file import load_json as load_json
    from numroberta.checkpoint.names import encoder_shapes as encoder_shapes
    from numroberta.checkpoint.safetensors_file import (
        load_safetensors as load_safetensors,
        open_safetensors as open_safetensors,
    )
    from numroberta.checkpoint.stored_tensor import StoredTensor as StoredTensor, widened as widened
    from numroberta.checkpoint.surrogates import (
        lone_surrogate as lone_surrogate,
        refuse_lone_surrogates as refuse_lone_surrogates,
    )
    from numroberta.checkpoint.writing import (
        new_folder as new_folder,
        sync_folder as sync_folder,
        write_checkpoint as write_checkpoint,
        write_file as write_file,
        write_json as write_json,
        write_safetensors as write_safetensors,
    )

__getattr__, __dir__ = door(
    __name__,
    {
        "checkpoint": (
            "Checkpoint",
            "open_checkpoint",
        ),
        "config": ("RobertaConfig",),
        "errors": (
            "CheckpointError",
            "ConfigError",
            "did_you_mean",
            "listed",
            "show",
        ),
        "folder": ("load_tensors",),
        "heads": (
            "DECODER",
            "DECODER_BIAS",
            "HEADS",
            "MASKED_LM",
            "POOLER",
            "SEQUENCE",
            "SPAN",
            "TOKEN",
            "WORDS",
            "Head",
            "head_shapes",
            "heads_among",
        ),
        "hub": (
            "HUB_FILES",
            "find_folder",
        ),
        "json_file": ("load_json",),
        "names": ("encoder_shapes",),
        "safetensors_file": (
            "load_safetensors",
            "open_safetensors",
        ),
        "stored_tensor": (
            "StoredTensor",
            "widened",
        ),
        "surrogates": (
            "lone_surrogate",
            "refuse_lone_surrogates",
        ),
        "writing": (
            "new_folder",
            "sync_folder",
            "write_checkpoint",
            "write_file",
            "write_json",
            "write_safetensors",
        ),
    },
)
