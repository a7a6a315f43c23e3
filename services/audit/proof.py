"""Makes and checks inclusion and consistency proofs (RFC 6962 §2.1.1 and §2.1.2).

The prover reads hash tiles through a function and works at any stored size; the checks need
nothing but their arguments. Invariant: a check that returns has tied every hash it was given to
the root it was given; there is no verdict in between.
"""

from services.audit.merkle import (
    EMPTY_ROOT,
    HASH_SIZE,
    TILE_HEIGHT,
    TILE_WIDTH,
    ReadHashTile,
    node_hash,
    partial_width,
    tile_roots,
)


class BadProof(Exception):
    """The proof does not connect what it claims to connect. Nothing it speaks of is proven."""


class TreeProver:
    """Makes proofs over a stored tree of `size` leaves. Reads each tile it needs once."""

    def __init__(self, size: int, read: ReadHashTile) -> None:
        self.size = size
        self._read = read
        self._tiles: dict[tuple[int, int], bytes] = {}

    def root(self, size: int | None = None) -> bytes:
        """Root of the tree when it had `size` leaves (default: now)."""
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise ValueError(f"size {size} is outside the tree of {self.size}")
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int) -> list[bytes]:
        """Audit path of leaf `index`, leaf to root (RFC 6962 §2.1.1)."""
        if not 0 <= index < self.size:
            raise ValueError(f"leaf {index} is outside the tree of {self.size}")
        path: list[bytes] = []
        low, high = 0, self.size
        while high - low > 1:
            middle = low + split(high - low)
            if index < middle:
                path.append(self._range(middle, high))
                high = middle
            else:
                path.append(self._range(low, middle))
                low = middle
        return path[::-1]

    def consistency(self, old_size: int) -> list[bytes]:
        """Proof that the tree of `old_size` leaves is a prefix of this one (RFC 6962 §2.1.2)."""
        if not 0 <= old_size <= self.size:
            raise ValueError(f"old size {old_size} is outside the tree of {self.size}")
        if old_size in (0, self.size):
            return []
        path: list[bytes] = []
        low, high = 0, self.size
        while high != old_size:
            middle = low + split(high - low)
            if old_size <= middle:
                path.append(self._range(middle, high))
                high = middle
            else:
                path.append(self._range(low, middle))
                low = middle
        if low:
            path.append(self._range(low, high))
        return path[::-1]

    def _range(self, low: int, high: int) -> bytes:
        """Hash over leaves [low, high), `low` a multiple of the power of two at or above."""
        parts: list[bytes] = []
        while low < high:
            width = 1 << (high - low).bit_length() - 1
            parts.append(self._node(width.bit_length() - 1, low // width))
            low += width
        result = parts.pop()
        while parts:
            result = node_hash(parts.pop(), result)
        return result

    def _node(self, height: int, index: int) -> bytes:
        level, inner = divmod(height, TILE_HEIGHT)
        tile, offset = divmod(index << inner, TILE_WIDTH)
        hashes = self._tiles.get((level, tile))
        if hashes is None:
            complete = tile < self.size >> TILE_HEIGHT * (level + 1)
            width = TILE_WIDTH if complete else partial_width(self.size, level)
            hashes = self._tiles[level, tile] = self._read(level, tile, width)
        at = offset * HASH_SIZE
        return tile_roots(hashes[at : at + (HASH_SIZE << inner)], inner)


def split(size: int) -> int:
    """Largest power of two strictly below `size`."""
    return 1 << (size - 1).bit_length() - 1


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """The root that `proof` leads to from a leaf hash (RFC 9162 §2.1.3.2).

    Raises:
        BadProof: the index is outside the tree or the proof has the wrong length.
    """
    if not 0 <= index < size:
        raise BadProof(f"leaf {index} is outside the tree of {size}")
    node, last, result = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise BadProof("the inclusion proof is too long")
        if node & 1 or node == last:
            result = node_hash(step, result)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, step)
        node, last = node >> 1, last >> 1
    if last:
        raise BadProof("the inclusion proof is too short")
    return result


def check_inclusion(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> None:
    """Passes if `leaf` is number `index` of the tree of `size` leaves with this `root`.

    Raises:
        BadProof: it is not.
    """
    if root_from_inclusion(leaf, index, size, proof) != root:
        raise BadProof(f"leaf {index} is not in the tree of {size}")


def check_consistency(
    old_size: int, old_root: bytes, size: int, root: bytes, proof: list[bytes]
) -> None:
    """Passes if the older tree is a prefix of the newer one (RFC 9162 §2.1.4.2).

    Raises:
        BadProof: it is not.
    """
    if not 0 <= old_size <= size:
        raise BadProof(f"old size {old_size} is outside the tree of {size}")
    if old_size in (0, size):
        known = EMPTY_ROOT if old_size == 0 else root
        if proof or old_root != known:
            raise BadProof("the trees are not consistent")
        return
    node, last = old_size - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    path = list(proof) if node else [old_root, *proof]
    if not path:
        raise BadProof("the consistency proof is too short")
    old = new = path[0]
    for step in path[1:]:
        if last == 0:
            raise BadProof("the consistency proof is too long")
        if node & 1 or node == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, step)
        node, last = node >> 1, last >> 1
    if last or old != old_root or new != root:
        raise BadProof("the trees are not consistent")
