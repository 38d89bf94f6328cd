"""Licences and citations of databases, as requested on their pages."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Terms:
    """Under what terms rows may be used, and what to cite.

    Attributes:
        licence: name of the licence.
        citation: BibTeX.
    """

    licence: str
    citation: str


MATERIALS_PROJECT: Final = Terms(
    licence="CC BY 4.0",
    citation=(
        "@article{Jain2013, author={Jain, A. and Ong, S. P. and Hautier, G. and Chen, W. and Richards, W. D. and "
        "Dacek, S. and Cholia, S. and Gunter, D. and Skinner, D. and Ceder, G. and Persson, K. A.}, "
        "title={Commentary: The Materials Project: A materials genome approach to accelerating materials innovation}, "
        "journal={APL Materials}, volume={1}, number={1}, pages={011002}, year={2013}, doi={10.1063/1.4812323}}"
    ),
)
AFLOW: Final = Terms(
    licence="free for academic use with citation",
    citation=(
        "@article{Curtarolo2012, author={Curtarolo, S. and Setyawan, W. and Wang, S. and Xue, J. and Yang, K. and "
        "Taylor, R. H. and Nelson, L. J. and Hart, G. L. W. and Sanvito, S. and Buongiorno-Nardelli, M. and "
        "Mingo, N. and Levy, O.}, title={AFLOWLIB.ORG: A distributed materials properties repository from "
        "high-throughput ab initio calculations}, journal={Computational Materials Science}, volume={58}, "
        "pages={227--235}, year={2012}, doi={10.1016/j.commatsci.2012.02.002}}\n"
        "@article{Rose2017, author={Rose, F. and Toher, C. and Gossett, E. and Oses, C. and Buongiorno Nardelli, M. "
        "and Fornari, M. and Curtarolo, S.}, title={AFLUX: The LUX materials search API for the AFLOW data "
        "repositories}, journal={Computational Materials Science}, volume={137}, pages={362--370}, year={2017}, "
        "doi={10.1016/j.commatsci.2017.04.036}}"
    ),
)
OQMD: Final = Terms(
    licence="CC BY 4.0",
    citation=(
        "@article{Saal2013, author={Saal, J. E. and Kirklin, S. and Aykol, M. and Meredig, B. and Wolverton, C.}, "
        "title={Materials Design and Discovery with High-Throughput Density Functional Theory: The Open Quantum "
        "Materials Database (OQMD)}, journal={JOM}, volume={65}, pages={1501--1509}, year={2013}, "
        "doi={10.1007/s11837-013-0755-4}}\n"
        "@article{Kirklin2015, author={Kirklin, S. and Saal, J. E. and Meredig, B. and Thompson, A. and Doak, J. W. "
        'and Aykol, M. and R{\\"u}hl, S. and Wolverton, C.}, title={The Open Quantum Materials Database (OQMD): '
        "assessing the accuracy of DFT formation energies}, journal={npj Computational Materials}, volume={1}, "
        "pages={15010}, year={2015}, doi={10.1038/npjcompumats.2015.10}}"
    ),
)
ALEXANDRIA: Final = Terms(
    licence="CC BY 4.0",
    citation=(
        "@article{Schmidt2023, author={Schmidt, J. and Hoffmann, N. and Wang, H.-C. and Borlido, P. and "
        "Carri{\\c{c}}o, P. J. M. A. and Cerqueira, T. F. T. and Botti, S. and Marques, M. A. L.}, "
        "title={Machine-Learning-Assisted Determination of the Global Zero-Temperature Phase Diagram of Materials}, "
        "journal={Advanced Materials}, volume={35}, pages={2210788}, year={2023}, doi={10.1002/adma.202210788}}\n"
        "@article{Schmidt2024, author={Schmidt, J. and Cerqueira, T. F. T. and Romero, A. H. and Loew, A. and "
        'J{\\"a}ger, F. and Wang, H.-C. and Botti, S. and Marques, M. A. L.}, '
        "title={Improving machine-learning models in materials science through large datasets}, "
        "journal={Materials Today Physics}, volume={48}, pages={101560}, year={2024}, "
        "doi={10.1016/j.mtphys.2024.101560}}"
    ),
)
LEMAT_BULK: Final = Terms(
    licence="CC BY 4.0, and of each row its database's terms (Materials Project, Alexandria, OQMD)",
    citation=(
        "@misc{LeMatBulk, author={{LeMaterial}}, title={LeMat-Bulk}, year={2024}, "
        "howpublished={https://huggingface.co/datasets/LeMaterial/LeMat-Bulk}}\n"
        f"{MATERIALS_PROJECT.citation}\n{ALEXANDRIA.citation}\n{OQMD.citation}"
    ),
)
TERMS: Final = MappingProxyType(
    {
        "materials_project": MATERIALS_PROJECT,
        "aflow": AFLOW,
        "oqmd": OQMD,
        "alexandria": ALEXANDRIA,
        "lemat_bulk": LEMAT_BULK,
    }
)
HOSTS: Final = MappingProxyType(
    {"materialsproject.org": "materials_project", "aflow.org": "aflow", "oqmd.org": "oqmd", "alexandria": "alexandria"}
)
UNKNOWN: Final = Terms(licence="not stated", citation="")


def terms_of(name: str, *, file_format: str = "", endpoint: str = "") -> Terms:
    """Terms by the format of a file or the host of a service of one database, else by the database's name."""
    by_host = next((found for part, found in HOSTS.items() if part in (urlsplit(endpoint).hostname or "")), "")
    return next((TERMS[key] for key in (file_format, by_host, name) if key in TERMS), UNKNOWN)
