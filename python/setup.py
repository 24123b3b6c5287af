"""Builds the library with cargo, and puts it beside the Python that loads it."""

import os
import pathlib
import shutil
import subprocess

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

ROOT = pathlib.Path(__file__).resolve().parent.parent


class BuildWithCargo(build_py):
    """The modules, and the library that cargo makes in the checkout."""

    def run(self):
        super().run()
        cargo = os.environ.get("CARGO", "cargo")
        subprocess.run([cargo, "build", "--locked", "--release", "--package", "sala-kernels-c"], cwd=ROOT, check=True)
        target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
        shutil.copy2(target / "release" / "libsala_kernels.so", pathlib.Path(self.build_lib) / "sala_kernels")


class Binary(Distribution):
    """A wheel for one platform."""

    def has_ext_modules(self):
        return True


setup(cmdclass={"build_py": BuildWithCargo}, distclass=Binary)
