"""How Numba compiles kernels and their parts: each piece of code once.

Numba optimises every function by itself, makes machine code of it, links it into what calls it, and there optimises it
again. Of a hundred small functions that was half of what a first training step took; and which version ran was not
certain. Here a `Part` becomes LLVM's IR and nothing else; a kernel is optimised when all of its parts are linked.
"""

import contextlib
import gc

import llvmlite.binding as llvm
from numba.core import cgutils, types
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, DefaultPassBuilder
from numba.core.compiler_machinery import LoweringPass, PassManager, register_pass
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import (
    AnnotateTypes,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NoPythonSupportedFeatureValidation,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import (
    DeadBranchPrune,
    FixupArgs,
    GenericRewrites,
    IRProcessing,
    ReconstructSSA,
    RewriteSemanticConstants,
    TranslateByteCode,
)

PARALLEL_FOR = "fastnn_parallel_for"  # by what name compiled code knows the function that shares out work


@contextlib.contextmanager
def _without_garbage_collection():
    """What the compiler makes, it keeps: looking for garbage in it again and again takes 8 % of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Library(JITCodeLibrary):
    """The code of a kernel, which is optimised when it is whole."""

    def _optimize_functions(self, module):  # each by itself: done by Numba for its own libraries
        module.data_layout = self._codegen._data_layout

    def finalize(self):
        _link(self._final_module, self._linking_libraries)
        for function in self._final_module.functions:
            if function.name == "numba_parallel_for":  # called by what Numba makes of `prange`
                function.name = PARALLEL_FOR
        self._variables_into_registers()
        for library in self._linking_libraries:
            self._reload_init.update(library._reload_init)
        self._linking_libraries = []
        super().finalize()

    def _variables_into_registers(self):
        """Numba keeps them in memory, and turns loops first: softmax then took 1.3 times as long."""
        passes = llvm.create_new_module_pass_manager()
        passes.add_sroa_pass()
        passes.add_simplify_cfg_pass()
        passes.run(self._final_module, self._codegen._pass_builder())


class _PartLibrary(_Library):
    """The code of a part as it was made, for libraries of kernels."""

    def __init__(self, codegen, name):
        super().__init__(codegen, name)
        self._modules = []

    def add_ir_module(self, ir_module):
        self._modules.append(ir_module)  # as a text only if it is needed

    def finalize(self):
        self._finalized = True

    def own_module(self):
        for ir_module in self._modules:
            self.add_llvm_module(llvm.parse_assembly(cgutils.normalize_ir_text(str(ir_module))))
        self._modules = []
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"
        return self._final_module

    def _get_module_for_linking(self):
        """Asked for by Numba's own libraries, which expect what is called from here in it, too."""
        module = self.own_module().clone()
        _link(module, self._linking_libraries)
        return module


def _link(module, libraries):
    """Copy the code of libraries, and of those that they call, into a module."""
    found, libraries = set(), list(libraries)
    while libraries:
        library = libraries.pop()
        if library not in found:
            found.add(library)
            is_part = isinstance(library, _PartLibrary)
            module.link_in(library.own_module() if is_part else library._get_module_for_linking(), preserve=True)
            libraries += library._linking_libraries if is_part else []


class _IntoLibrary(LoweringPass):
    def __init__(self):  # abstract in Numba's
        super().__init__()


@register_pass(mutates_CFG=False, analysis_only=True)
class _AsKernel(_IntoLibrary):
    _name = "fastnn_as_kernel"

    def run_pass(self, state):
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return True


@register_pass(mutates_CFG=False, analysis_only=True)
class _AsPart(_IntoLibrary):
    _name = "fastnn_as_part"

    def run_pass(self, state):
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = state.flags.no_cpython_wrapper = state.flags.no_cfunc_wrapper = True
        return True


class _KernelCompiler(Compiler):
    lowering = _AsKernel

    def define_pipelines(self):
        if self.state.flags.auto_parallel.enabled:
            pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
            pipeline.add_pass_after(self.lowering, AnnotateTypes)
        else:
            pipeline = PassManager("fastnn")
            for each in (*_ALL_BUT_PRANGE, self.lowering, NativeLowering, NoPythonBackend):
                pipeline.add_pass(each, each.__name__)
        pipeline.finalize()
        return [pipeline]


# Of Numba's passes those that kernels need. Left out are those for functions in functions, for `with`, for loops over
# tuples of several types, and the one that joins operations on whole arrays: most find out anew which variables live
# where, together 0.5 s of a first step.
_ALL_BUT_PRANGE = (
    TranslateByteCode, FixupArgs, IRProcessing, RewriteSemanticConstants, DeadBranchPrune, GenericRewrites,
    ReconstructSSA, DeadBranchPrune, NopythonTypeInference, PreLowerStripPhis, NoPythonSupportedFeatureValidation,
    IRLegalization, AnnotateTypes,
)  # fmt: skip


class _PartCompiler(_KernelCompiler):
    lowering = _AsPart


class Kernel(CPUDispatcher):
    """A function compiled to be called from Python."""

    def __init__(self, function, options):
        super().__init__(function, targetoptions=options, pipeline_class=_KernelCompiler)

    def compile(self, signature):
        with _without_garbage_collection():
            return super().compile(signature)


class CKernel(CFunc):
    """A function compiled to be called by its address."""

    def __init__(self, function, signature, options):
        super().__init__(function, signature, locals={}, options=options, pipeline_class=_KernelCompiler)

    def compile(self):
        with _without_garbage_collection():
            super().compile()


class Part(CPUDispatcher):
    """A function that compiled code calls. From Python it is as if it were not compiled."""

    def __init__(self, function, options):
        super().__init__(function, targetoptions=options, pipeline_class=_PartCompiler)

    def __call__(self, *args):
        return self.py_func(*args)

    def get_call_template(self, args, kws):  # for any integer, not for 1 and for 2
        kws = {name: types.unliteral(arg) for name, arg in kws.items()}
        return super().get_call_template([types.unliteral(arg) for arg in args], kws)

    def add_overload(self, result):
        result = result._replace(entry_point=result.library)  # nothing that could be called, but known by it
        self.targetctx.insert_user_function(result.entry_point, result.fndesc, [result.library])
        self.overloads[tuple(result.signature.args)] = result
