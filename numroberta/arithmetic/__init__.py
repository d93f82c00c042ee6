"""Token ids in, hidden states out, fast.

blas       NumPy's BLAS, held to one thread while ours compute
converted  weights that the file has in another dtype, converted when they are needed
encoder    the forward pass: a token is a column, padding never enters
cut        into which parts a layer's work is cut
kernels    gelu, softmax, layer norm, in blocks that stay in the cache; products that BLAS need not copy for
heads      hidden states to logits
pooling    token vectors to one vector
reproducible    the same forward pass, with the same bits on every machine
exact_products  products of matrices that no order of additions can change
fixed_order     sums, exp, gelu, softmax and layer norm in one order
roberta    `Roberta`, the encoder of a checkpoint
schedule   which texts run side by side and on which thread; the only file that starts threads
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.arithmetic import (
        exact_products as exact_products,
        fixed_order as fixed_order,
        heads as heads,
        kernels as kernels,
        schedule as schedule,
    )
    from numroberta.arithmetic.blas import one_blas_thread as one_blas_thread
    from numroberta.arithmetic.pooling import (
        POOLINGS as POOLINGS,
        PRECISIONS as PRECISIONS,
        SIMILARITIES as SIMILARITIES,
        cosine_similarity as cosine_similarity,
        normalize as normalize,
        one_of as one_of,
        pool as pool,
        quantize as quantize,
        similarity as similarity,
        similarity_pairwise as similarity_pairwise,
    )
    from numroberta.arithmetic.roberta import (
        Roberta as Roberta,
        RobertaOutput as RobertaOutput,
        TextInput as TextInput,
        TextOutput as TextOutput,
    )

__getattr__, __dir__ = door(
    __name__,
    {
        "pooling": (
            "POOLINGS",
            "PRECISIONS",
            "SIMILARITIES",
            "cosine_similarity",
            "normalize",
            "one_of",
            "pool",
            "quantize",
            "similarity",
            "similarity_pairwise",
        ),
        "roberta": (
            "Roberta",
            "RobertaOutput",
            "TextInput",
            "TextOutput",
        ),
        "blas": ("one_blas_thread",),
    },
)
