"""What is left of an ONNX file without its weights, in few bytes: coder 3 of the container.

Names become differences (names.py), and zlib has read a dictionary of what such files say. A decoder of plain zlib
streams, which is all that browsers have, reads it too: in front of the data go a zlib header and the dictionary as a
block that is stored, and what comes out begins with the dictionary.
"""

import base64
import zlib

import numpy as np

from swiftlet.pack.encodings import Bytes
from swiftlet.pack.error import ContainerError
from swiftlet.pack.names import absolute, relative

# 7,400 bytes of what small files of ours say, as float32 and int8, as names.relative() leaves it; here deflated. It is
# a part of the format: another dictionary is another version.
DICTIONARY = zlib.decompress(
    base64.b64decode(
        "eNrdWVtzGzUUji9JHNEGx51AKDwUTR/AuMa7viT1A6ShM2UY6JSWDpBMZpF3FVuTvSHtpm47+S99hr/GH+AJztmbb3FKUtPJ1K6co8vRuejo"
        "SPpKPifLwmF9Xsk3GnTtJ8lc5XuKVzdI0efS2V3aLezmdvOvcqvkIwJjYJxGi98wFVTXSD5wt3KvcnnyNXZB0aDoUJpQWjC0TSt7LDAHDz3p"
        "MFu8YIHwXJh7lftK2J67uQSfV7kc+W18AmBs3rx2xFkQSq7qjXoDJHruSXWTXDvm0uW2oQbM56BaARSLdGWWAj2jLzaVyaoKpLC42s3H2ncy"
        "7d/7lknrieg7nrCq75NlZvsDtvnnH9WvQJPqOin2eMBQs69Rsw2S39/PeAs/hDb5OKtuPLC9HrPvnXAJPnzkeTa5N2NJpWd75jHaoXhdcis0"
        "+Rx7YuXJ+sjRj7kdvm5KPvSZa50/5ZtY/3jS+o2suppMc5aPbqc6V2KdNbr8xLdFUH2PFNlQqDhuPgXGX5A5GrECFphsasjm+ER09TGP7CKf"
        "ZeLGgvZGFrR5MLywW0TT50zw8XTIQncLlLSFyWMbM57CI2YRNTL7BzbEpYYgWzO5sA3Hs/gWhHG+WiFrlrCjKFdpKL5J0J6Olm0sxs4QvEU2"
        "TC90A0O4ph1a3IC5I//NiI9nzsQvxd+zxX8wHXgQZLbwY19MBORGEpBavedZz+FPumWvkeW+9EJ/q3yWMhfxxe7rhOpz80SyCZJV3X8ah+k9"
        "y5rZak9nhNxQAbg9ykKxmEukoxkx52aQOQGrzahGTJspJY4El7T4gDtO9TpZCXA37MVrXyoVyrk9GJ5R2pnUeqlcKuA3G13OeoAu5Uq5qN6u"
        "YnXEU8p6mmM8pVK+vApUB6jliGoBVYwoHJeLKD2jtAmqlPSuRLO1kr+xvPIcHctjOs72pDytM3RsVUmJJK3ISeL+OWfdCiakqdxwX5xkgfVL"
        "HFjjTT9PJM79X0dZ8knYm7fUKfNPo5FnKcS3IN7y1OXBM08e0y51vJ6wOdSNE53W6DMu+oNA0e5LilnNhXOnS6EdhOjtTkJ7oYzbT2vUZ5K7"
        "McOR7bGgqceDRhKg4g+8wFMxx8FLymQ/dFIuFtBuo0aPuQ/EAXWE67Ah8nAQ4gagHFSAkJ7/HKnfQ7wV8FuOwg5mMUgVcJTVqOlJyc3A6Amm"
        "uKKHNQph3eeG8iVnFogCbVUAtwja1dogEVIFj5qh3WUOGgRzg8QX3OhxFYCuk6qOxlmgjBFnknNG+TJ0+Tn9koPzgAy4BJn09JCaOK9vokfq"
        "O9vtGnU4c8Ermt6sd6CuaZ26vlPTGs16u4kGcoWcXdoTZggFFwfyH+3qeguNBfMO2jv15t12rb1d13T8bW63D6fXoCfwL7AI1w8DQ5kMvA46"
        "NLR2R2+nzS+49AzfEy7op4Ea1GbPuTRi5nE3+pFl3PidnefEI+EKNYAlAMOZaYaSmc9R6F2UBz45YTaoj3UoYCw4QmvABwzDWwHMEOAqlVYr"
        "JfVMHAU2D8gFrqbZbYMUDbAm2k3l+zwNge+Fy5kkX0wcZTP92b0DT9SLDf4WT5X4LhPv0psrEJ3OJU6KW6MsbzQiO9Z/nLSCJslhPxmhvVVL"
        "zRlLb2QX9UUd/lfeCbszTpi6ijRedxW56haquRbq/98NbzFOuexTZzHS8ZD/efIpRM9ITtNT386mTsdclYjW/+PlenFWLuyllTT/p6fOVd+Q"
        "T2fz7iIeJu+A2dolzF5csKZX9QejN+VV92l/rk+1Nwild2pPae94cJ2LPyxGxJyn7ZczkNsiV1TDR/PEir4OI4ltqawoeHHCQ3P1iXcUwJt1"
        "AoOcwCBinKQwhTQgtTLVtpIgI+sROpFyNS/AFaMaF+W6uKxJrKV1SdmT3Jez97Kav02ZMQLW+m5pjLqZ4EnN78pLyeef5JMgTHHEkBRhAh6k"
        "C2N0JC+hkzGj1/D+rfQ1/CHZLOUrG6RQyT0k+dInSSn0PiJJFFfeJ9dLucpaOoTsFclS+br8e5lk81X+Wn459lJ3Q9uuTeIIz4QVDPANr7dP"
        "EZBxYdcgmvESaNsLJbzZHz/YQ6xGej5UEOCBTVYbAz4ge9YoH4ojfN+n73c6hoTswICx30kUxI42+AgG2UlRkE4LGLKfw0g7FWnmMBMRoQjJ"
        "Yg6QOnT2PdviLnb7woxeqohN9SWzBKh8525n2Gmh2gNuQoa/024Mt9sIenlC8TvN5rDVgJoUbl/dAS2HUBCP8sWQ28pIsbQDhMaSf9CbpJPu"
        "wUEDzYp+UdERGBJ73GY9mAXZUYgGBYG7JhRUCdXoQNmGsgPlLo2hk5h3hMqBKKjoOMU8CG8ctUNMxxQKrs5QB41wamjxpIWazIV4wI1GD/83"
        "z/WkM4MFUZPZoiejGzlCkdFCXwyC8rk0zAFz4ZCl3UCGHPx4LCC2Dg5TMDMBqHZmYT56epiBSbF/RvDn6em/lAu0Lw=="
    )
)
STORED = len(DICTIONARY).to_bytes(2, "little") + (len(DICTIONARY) ^ 0xFFFF).to_bytes(2, "little") + DICTIONARY
FRONT = b"\x78\xda\x00" + STORED


def encode(skeleton: bytes) -> bytes:
    """What comes behind the dictionary in a zlib stream of both."""
    text = relative(skeleton)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    return deflater.compress(text) + deflater.flush() + zlib.adler32(DICTIONARY + text).to_bytes(4, "big")


def decode(data: bytes, symbols: int, offset: int) -> Bytes:
    """The skeleton, of so many bytes; `offset` is where the data begins in its file. Raises ContainerError."""
    inflater, length = zlib.decompressobj(), len(DICTIONARY) + symbols
    try:
        text = inflater.decompress(FRONT + data, length + 1)
    except zlib.error as error:
        raise ContainerError("deflate", offset) from error
    if len(text) != length or not inflater.eof or inflater.unused_data:
        raise ContainerError("deflate", offset)
    return np.frombuffer(absolute(text[len(DICTIONARY) :]), np.uint8)
