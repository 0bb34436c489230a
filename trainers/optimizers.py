"""The names of timm's optimizers that train here, known without importing torch.

Left out are those that need CUDA libraries of their own (bitsandbytes, APEX) or second derivatives (adahessian).
"""

_NAMES = """
adabelief adadelta adafactor adafactorbv adafactorbvc adagrad adam adamax adamc adamp adamuon adamw adamwlegacy adan
adanw adopt adoptc adoptw cadafactor cadafactorbv cadafactorbvc cadamc cadamp cadamw cadan cadanw cadopt cadoptc
cadoptw clamb clambw claprop clion clionc cmars cnadamc cnadamw crmsproptf csgdc csgdp csgdw kron kronc kronw lamb
lambc lambcd lambcw lambw laprop lapropc larc lars lion lionc madgrad madgradw mars momentum muon nadam nadamc
nadamlegacy nadamuon nadamw nesterov nesterovw nlarc nlars nmuon novograd novogradc novogradw radabelief radam
radamlegacy radamw rmsprop rmsproptf rmsproptfc rmsproptfw sgd sgdc sgdp sgdw
"""
OPTIMIZERS = frozenset(_NAMES.split())
