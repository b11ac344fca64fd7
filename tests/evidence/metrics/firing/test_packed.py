import numpy as np

from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.packed import pack


def test_a_code_equal_to_the_threshold_does_not_fire():
    """As in the counts that the nulls are compared with; the threshold is a float32, as the codes are."""
    threshold = np.float32(0.1)
    above = np.nextafter(threshold, np.float32(1))
    values = np.array([[[threshold, above], [above, threshold]], [[threshold, 0.05], [0.0, threshold]]])
    indices = np.broadcast_to(np.arange(2, dtype=np.uint16), values.shape)
    packed = pack(CodeChunk(np.arange(2), indices, values.astype(np.float32)), 3, 0.1)
    assert packed.image.tolist() == [0, 0]
    assert packed.concept.tolist() == [0, 1]
    assert packed.sizes.tolist() == [1, 1]
    assert packed.slot.tolist() == [[0, 1, -1], [-1, -1, -1]]
