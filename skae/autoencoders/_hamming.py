"""Bits packed into words, and the exact search for the nearest ones by Hamming distance."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

WORD = 64
# Words that are compared with a query at once: few enough to stay in a core's cache, many enough to amortise a call.
BLOCK = 2**15
# Queries that a thread takes at once; a block of codes is read once for them all.
GROUP = 64
# faiss is asked for more neighbours, to see the end of the ties, up to so many.
MAX_ASKED = 2048
ENGINES = ("auto", "numpy", "faiss")


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """Bits of shape (n_rows, n_bits) in uint64 words of shape (n_rows, n_words).

    Bit j is bit j mod 64, the lowest first, of word j // 64; the rest of the last word is zero.
    """
    n, n_bits = bits.shape
    n_words = -(-n_bits // WORD)
    packed = np.zeros((n, 8 * n_words), dtype=np.uint8)
    packed[:, : -(-n_bits // 8)] = np.packbits(bits, axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64, copy=False)


def unpack_bits(words: np.ndarray, n_bits: int) -> np.ndarray:
    """The inverse of `pack_bits`: uint8 zeros and ones of shape (n_rows, n_bits)."""
    packed = np.ascontiguousarray(words, dtype="<u8").view(np.uint8)
    return np.unpackbits(packed, axis=1, count=n_bits, bitorder="little")


def nearest(queries: np.ndarray, codes: np.ndarray, k: int, engine: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """The k nearest codes of each query; equal distances are in the order of the codes.

    Parameters
    ----------
    queries, codes : ndarray of shape (n_queries, n_words) and (n_codes, n_words), uint64
    k : int
        At most n_codes.
    engine : {"auto", "numpy", "faiss"}
        "auto" is faiss where it is installed. Both give the same.

    Returns
    -------
    distances, indices : ndarray of shape (n_queries, k), int64
        Number of differing bits, in rising order, and index in `codes`.
    """
    faiss = _faiss(engine)
    distances, indices = (np.empty((len(queries), k), dtype=np.int64) for _ in range(2))
    if faiss is not None:
        waiting = _by_faiss(faiss, queries, codes, k, distances, indices)
    else:
        waiting = np.arange(len(queries))
    by_word = np.ascontiguousarray(codes.T)

    def search(rows: np.ndarray) -> None:
        distances[rows], indices[rows] = _nearest_of_group(queries[rows], by_word, k)

    groups = np.split(waiting, range(GROUP, len(waiting), GROUP)) if len(waiting) else []
    n_threads = min(len(groups), _n_cores())
    if n_threads < 2:
        for rows in groups:
            search(rows)
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(search, groups))
    return distances, indices


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _nearest_of_group(queries: np.ndarray, by_word: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of each of a few queries among codes of shape (n_words, n_codes)."""
    n_words, n = by_word.shape
    size = min(n, max(BLOCK, k))
    # Up to 255 bits differ in a uint8; the narrower the numbers, the faster they are compared and sorted.
    dtype = np.uint8 if n_words < 4 else np.uint16 if n_words < 1024 else np.uint32
    scratch = np.empty(size, dtype=np.uint64), np.empty(size, dtype=np.uint8), np.empty(size, dtype=dtype)
    held = [(np.empty(0, dtype=dtype), np.empty(0, dtype=np.int64))] * len(queries)
    for start in range(0, n, size):
        block = by_word[:, start : start + size]
        for row, query in enumerate(queries):
            held[row] = _merge(*held[row], _distances(query, block, *scratch), start, k)
    distances, indices = zip(*held, strict=True)
    return np.stack(distances), np.stack(indices)


def _distances(query: np.ndarray, block: np.ndarray, differing: np.ndarray, counts: np.ndarray, total: np.ndarray):
    """Hamming distance of a query to each code of a block, written to `total`."""
    n = block.shape[1]
    differing, counts, total = differing[:n], counts[:n], total[:n]
    for index, word in enumerate(query):
        np.bitwise_xor(block[index], word, out=differing)
        if index == 0:
            np.bitwise_count(differing, out=total)
        else:
            np.add(total, np.bitwise_count(differing, out=counts), out=total)
    return total


def _merge(best: np.ndarray, index: np.ndarray, found: np.ndarray, start: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of those held and those found, which come later and so lose every tie."""
    near = np.flatnonzero(found < best[-1]) if len(best) == k else np.arange(len(found))
    if len(near) == 0:
        return best, index
    distances, indices = np.concatenate([best, found[near]]), np.concatenate([index, start + near])
    # Stable: equal distances keep the order of the codes. On numbers this narrow it is a radix sort.
    order = np.argsort(distances, kind="stable")[:k]
    return distances[order], indices[order]


def _faiss(engine: str):
    """The module, or None where it is not to be used."""
    if engine == "numpy":
        return None
    try:
        import faiss
    except ImportError:
        if engine == "auto":
            return None
        raise ImportError("engine='faiss' needs the package faiss: install faiss-cpu, or use 'auto'.") from None
    return faiss


def _by_faiss(
    faiss, queries: np.ndarray, codes: np.ndarray, k: int, distances: np.ndarray, indices: np.ndarray
) -> np.ndarray:
    """Fill in what faiss can tell, and return the queries that are left.

    Which of the codes at the same distance faiss takes is its own affair. So it is asked for more
    than k, and a query is done when what comes last is farther than what comes k-th.
    """
    made = faiss.IndexBinaryFlat(WORD * codes.shape[1])
    made.add(_as_bytes(codes))
    waiting, asked = np.arange(len(queries)), min(len(codes), 2 * k + 16)
    while len(waiting):
        found, index = made.search(_as_bytes(queries[waiting]), asked)
        order = np.lexsort((index, found), axis=1)
        found, index = np.take_along_axis(found, order, 1), np.take_along_axis(index, order, 1)
        done = found[:, -1] > found[:, k - 1] if asked < len(codes) else np.ones(len(waiting), dtype=bool)
        distances[waiting[done]], indices[waiting[done]] = found[done, :k], index[done, :k]
        waiting = waiting[~done]
        if asked >= max(MAX_ASKED, 2 * k):
            break
        asked = min(len(codes), 8 * asked)
    return waiting


def _as_bytes(words: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(words, dtype="<u8").view(np.uint8)
