"""What the class docstrings of the autoencoders have in common, written once.

A class docstring holds a line ``{max_iter ... verbose}`` where the entries from `max_iter` to
`verbose` below belong, or ``{max_iter}`` for one alone; what differs is written out beside it.
"""

from __future__ import annotations

import re

SHARED = """\
n_components : int, float, "auto" or None, default="auto"
    Size of the code; a share of the variance that PCA needs, in (0, 1); the number of
    components with more than the mean variance; or, with None, as many as there are rows or
    features, whichever are fewer. It may be above the number of features.
hidden_layer_sizes : int, tuple of int or "auto", default="auto"
    Hidden units of the encoder, from the input on; the decoder has them in reverse order. A number
    is a single layer, and () makes both linear, as PCA's are. "auto" takes two layers, the first
    about twice as wide as X, or as the space that few rows of many columns span.
activation : {"relu", "tanh", "logistic", "identity", "gelu", "silu", "elu", "auto"}, default="auto"
    Activation of the hidden units; "auto" is "gelu".
network : Network part or None, default=None
    Builds encoder and decoder in place of the two parameters above: `DenseNetwork` with tied
    weights or dropout, or your own part with `encoder(n_in, n_out)` and
    `decoder(n_in, n_out, encoder)`.
likelihood : str or Likelihood, default="gaussian"
    What a row is scored by: "gaussian" is squared error, "bernoulli" binary cross-entropy for
    values between 0 and 1, "bounded_gaussian" squared error of an output between 0 and 1,
    "student_t" squared error that bears wild entries, "poisson" counts, "negative_binomial" counts
    that vary more than Poisson's, with a dispersion of each column, "multinomial" the shares that a
    row's entries have of its total, as of words in documents, "mixed" data frames: numbers, booleans
    and categories each by their own, and no encoding or scaling before; see `Mixed`.
init : {"pca", "random"}, default="pca"
    "pca" puts a linear path beside the networks that starts as PCA, while they start at zero:
    the first loss is PCA's. "random" has no linear path.
n_init : int, default=1
    Restarts from other first weights; the one with the lowest held-out loss is kept (with the
    lowest loss where folds or nothing is held out). They train side by side; `partial_fit` has
    none.
corruption : str, Corruption, callable or None, default=None
    "gaussian", "masking", "salt_and_pepper", "swap", a part, or a function of rows: what is
    done to a row before the encoder sees it while training; see `DenoisingAE`.
penalties : list of Penalty or "auto", default="auto"
    Penalties beside the likelihood. "auto" is `Anchor()` with `init="pca"`: the code stays near
    PCA's unless leaving it earns a smaller error. An empty list has none, for the smallest
    error.
max_iter : int or "auto", default="auto"
    Epochs; "auto" is a budget in steps, so that few rows train long enough and many not too long.
batch_size : int or "auto", default="auto"
    Rows of a batch.
learning_rate : float or "auto", default="auto"
    First learning rate; "auto" is the optimizer's own: for "adamw", 0.05 over the root of the
    widest hidden layer's units, between 0.001 and 0.01.
optimizer : {"adamw", "sgd", "lbfgs"} or Optimizer, default="adamw"
    How the loss is minimised.
early_stopping : bool or EarlyStopping, default=True
    Whether held-out rows decide when to stop.
warm_start : bool, default=False
    Whether `fit` goes on from the last fit, whose `n_components_` it keeps: another integer
    for `n_components` is an error, as other sizes of layers are.
device : str, default="auto"
    "cpu", "cuda", "cuda:1", "mps"; "auto" takes a CUDA device where there is one and the
    network is large enough to be faster there.
random_state : int, RandomState instance or None, default=None
    Seed of all that is random; an int makes refits identical.
verbose : bool or int, default=False
    How much is printed of how far the fit is; 0 or False is nothing, 1 or True at most a line a
    second: the training, its epoch, losses and the seconds left, if nothing stops earlier; 2 or more
    is a line an epoch, with the loss by term.
model_ : Autoencoder
    The trained torch module. Its `forward` maps a tensor of rows to their reconstruction, both in
    the units of X.
n_components_ : int
    Size of the code.
n_iter_ : int
    Epochs run; 1 where none was needed and the start was kept.
loss_curve_ : list of float
    Mean loss of each epoch; of the start, where it was kept.
validation_loss_curve_, validation_epochs_ : list
    Mean loss of the held-out rows, and after how many epochs, beginning with the start.
loss_terms_ : dict of list of float
    The loss by term.
explained_variance_, explained_variance_ratio_ : ndarray of shape (n_components_,)
    Variance of PCA's components, over n − 1 as scikit-learn's, and its share of the whole, with
    `init="pca"`.
components_ : ndarray of shape (n_components_, n_features_in_)
    The code is (X − mean_) @ components_.T where the encoder is linear, as with
    `hidden_layer_sizes=()`: of `AutoencoderTransformer`, PCA's. Others have none.
mean_ : ndarray of shape (n_features_in_,)
    Where that code is zero: the means of the columns, with PCA's.
n_features_in_ : int
    Number of features seen during fit.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Names of the features, where X has string column names.
table_encoder_ : TableEncoder
    What turns tables into matrices and back, with `likelihood="mixed"`.
"""

# By name, in their order: a line that is not indented begins an entry.
ENTRIES = {re.match(r"\w+", entry)[0]: entry.splitlines() for entry in re.split(r"\n(?=\w)", SHARED.rstrip())}
MARKER = re.compile(r"^( *)\{(\w+)(?: \.\.\. (\w+))?\}$", re.MULTILINE)


def with_shared_entries(docstring: str) -> str:
    """A docstring with the shared entries in place of its markers; other text in braces stays as it is."""
    return MARKER.sub(_entries, docstring)


def _entries(marker: re.Match) -> str:
    indent, first, last = marker.groups()
    names = list(ENTRIES)
    if first not in names or (last or first) not in names:
        return marker[0]
    named = names[names.index(first) : names.index(last or first) + 1]
    return "\n".join(indent + line for name in named for line in ENTRIES[name])
