"""From a network and a dataset to a run folder and its classifier."""

from torchnin.training.errors import CollapseError as CollapseError
from torchnin.training.errors import DivergenceError as DivergenceError
from torchnin.training.errors import Interrupted as Interrupted
from torchnin.training.errors import LostProcessError as LostProcessError
from torchnin.training.errors import OutOfMemoryError as OutOfMemoryError
from torchnin.training.errors import TrainingError as TrainingError
from torchnin.training.log import Both as Both
from torchnin.training.log import TensorBoard as TensorBoard
from torchnin.training.plan import reading_size as reading_size
from torchnin.training.processes import joined as joined
from torchnin.training.provenance import load_recorded as load_recorded
from torchnin.training.recipe import RECIPES as RECIPES
from torchnin.training.recipe import Recipe as Recipe
from torchnin.training.recipe import named_recipe as named_recipe
from torchnin.training.recipe import recipe_for as recipe_for
from torchnin.training.run import Run as Run
from torchnin.training.seeds import train_seeds as train_seeds
from torchnin.training.speed import Rate as Rate
from torchnin.training.speed import Speed as Speed
from torchnin.training.speed import measure_speed as measure_speed
from torchnin.training.start import resume as resume
from torchnin.training.start import train as train
