/* Socket calls without what Python's own put around them: `proxy/net/kernel.py` says what each does
 * and holds the same in Python. The sockets never block, so the interpreter's lock is kept. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <sys/socket.h>

#include "../_arguments.h"
#include "_sockets.h"

#define SMALL 4096

static PyObject *receive(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    if (!arguments_are(count, 2)) return NULL;
    int descriptor = (int)PyLong_AsLong(arguments[0]);
    Py_ssize_t size = PyLong_AsSsize_t(arguments[1]);
    if (PyErr_Occurred()) return NULL;
    if (size <= SMALL) {
        char block[SMALL];
        ssize_t got = recv(descriptor, block, (size_t)(size < 0 ? 0 : size), MSG_DONTWAIT);
        if (got >= 0) return PyBytes_FromStringAndSize(block, got);
    } else {
        PyObject *block = PyBytes_FromStringAndSize(NULL, size);
        if (block == NULL) return NULL;
        ssize_t got = recv(descriptor, PyBytes_AS_STRING(block), (size_t)size, MSG_DONTWAIT);
        if (got >= 0) {
            if (got != size) _PyBytes_Resize(&block, got);
            return block;
        }
        int error = errno;
        Py_DECREF(block);
        errno = error;
    }
    if (would_block()) Py_RETURN_NONE;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *send_some(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    if (!arguments_are(count, 2)) return NULL;
    int descriptor = (int)PyLong_AsLong(arguments[0]);
    if (descriptor == -1 && PyErr_Occurred()) return NULL;
    ssize_t sent;
    if (PyBytes_CheckExact(arguments[1])) {
        sent = send(descriptor, PyBytes_AS_STRING(arguments[1]),
                    (size_t)PyBytes_GET_SIZE(arguments[1]), MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        Py_buffer view;
        if (PyObject_GetBuffer(arguments[1], &view, PyBUF_SIMPLE) < 0) return NULL;
        sent = send(descriptor, view.buf, (size_t)view.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        int error = errno;
        PyBuffer_Release(&view);
        errno = error;
    }
    if (sent >= 0) return PyLong_FromSsize_t(sent);
    if (would_block()) return PyLong_FromLong(0);
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyMethodDef functions[] = {
    {"receive", (PyCFunction)(void (*)(void))receive, METH_FASTCALL, NULL},
    {"send", (PyCFunction)(void (*)(void))send_some, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&definition); }
