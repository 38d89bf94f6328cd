"""Mirror images are one material: the eleven pairs of enantiomorphic space groups."""

from types import MappingProxyType
from typing import Final

# International Tables A: left- and right-handed screw axes of one structure; energy and gap are equal
MIRROR_IMAGES: Final = MappingProxyType(
    {
        78: 76,  # P4_3, P4_1
        95: 91,  # P4_322, P4_122
        96: 92,  # P4_32_12, P4_12_12
        145: 144,  # P3_2, P3_1
        153: 151,  # P3_212, P3_112
        154: 152,  # P3_221, P3_121
        170: 169,  # P6_5, P6_1
        172: 171,  # P6_4, P6_2
        179: 178,  # P6_522, P6_122
        181: 180,  # P6_422, P6_222
        213: 212,  # P4_132, P4_332
    }
)


def same_up_to_mirror(first: int, second: int) -> bool:
    """Whether two space groups are equal or each other's mirror image."""
    return MIRROR_IMAGES.get(first, first) == MIRROR_IMAGES.get(second, second)
