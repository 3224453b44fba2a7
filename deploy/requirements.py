"""Print what to install beside higan itself for a backend and a device: the dependencies of pyproject.toml.

python requirements.py tensorflow|jax cpu|gpu
"""

import sys
import tomllib

EXTRA = {
    ("tensorflow", "cpu"): [],
    ("tensorflow", "gpu"): ["tensorflow[and-cuda]"],
    ("jax", "cpu"): ["jax"],
    ("jax", "gpu"): ["jax[cuda12]"],
}


def main() -> None:
    """One requirement a line."""
    asked = tuple(sys.argv[1:])
    if asked not in EXTRA:
        sys.exit(f"BACKEND and DEVICE are {' and '.join(asked) or 'missing'}: take tensorflow or jax, and cpu or gpu.")
    with open("pyproject.toml", "rb") as file:
        found = tomllib.load(file)
    # Keras takes either; an image holds that which it runs on.
    own = [item for item in found["project"]["dependencies"] if asked[0] == "tensorflow" or "tensorflow" not in item]
    print("\n".join([*own, *EXTRA[asked], *found["build-system"]["requires"]]))


if __name__ == "__main__":
    main()
