/* Of the arguments of functions in C. */
#ifndef PENSTOCK_ARGUMENTS_H
#define PENSTOCK_ARGUMENTS_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static inline int arguments_are(Py_ssize_t count, Py_ssize_t wanted) {
    if (count == wanted) return 1;
    PyErr_Format(PyExc_TypeError, "%zd arguments expected, not %zd", wanted, count);
    return 0;
}

#endif
