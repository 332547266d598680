"""A penalty: components that do not repeat each other."""

from skae.model.penalties import Penalty


class DecorrelatedCode(Penalty):
    """Squared covariances of different components over the batch, ½ Σ_{j≠k} C²ⱼₖ.

    Parameters
    ----------
    weight : float, default=1.0

    References
    ----------
    Cogswell et al., "Reducing overfitting in deep networks by decorrelating representations", ICLR 2016, equation 3.
    """

    def __init__(self, weight=1.0):
        self.weight = weight

    def __call__(self, step):
        """The same number for each row, of shape (n_rows,)."""
        centred = step.code - step.batch_mean(step.code)
        products = (centred[:, :, None] * centred[:, None, :]).flatten(1)
        n_components = centred.shape[1]
        covariance = step.batch_mean(products).view(n_components, n_components)
        apart = covariance - covariance.diag().diag()
        return 0.5 * apart.square().sum().expand(len(centred))
