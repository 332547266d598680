"""Causes for which a fit may be refused, and what the message says of them."""

REFUSALS = {
    "not probabilities": r"takes values in \[0, 1\], but column .* holds",
    "not counts": r"takes counts or shares, but column .* holds",
    "more linear components than columns": r"n_components=\d+ is above n_features=\d+: a linear",
    "training diverges": r"in epoch \d+: training diverges",
    "strings": r"X holds strings .* by TableEncoder",
    "not images of this shape": r"image_shape=.* but X has \d+ features a row",
    "nothing to unpool": r"up='unpool' needs the positions of the maxima",
    "other noise than conditioned on": r"conditioning='noise_level' needs Gaussian noise",
    "one class": r"A classifier needs rows of at least two classes",
    "too few rows": r"Found array with \d+ sample.* while a minimum of \d+ is required",
    "sparse": r"Sparse data was passed for X, but dense data is required",
    "no line search": r"optimizer=.* searches along lines, but contrastive",
    "free bits of another prior": r"free_bits=.* needs prior='normal'",
    "a plane of one component": r"Prior lies in a plane, but n_components=1: use at least 2",
    "images of categories": r"likelihood='mixed' is for tables, and the columns of images are pixels",
    "unbounded activations": r"kind='.*' compares activations between .* and .* with the target",
    "nothing observed": r"Every value of X is missing",
    "total correlation of a point": r"TotalCorrelation\(estimator='minibatch'\) needs a VAE",
    "units of a Boltzmann machine": r"the units of layer='rbm' are logistic; use activation='logist",
    "dropout of another network": r"dropout=.* is for dense networks",
}
