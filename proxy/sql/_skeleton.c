/* A text's whole numbers taken out: `proxy/sql/skeleton.py` says what this does and holds the same
 * in Python. */
#include "_skeleton.h"

static PyObject *skeleton(PyObject *module, PyObject *text) {
    (void)module;
    if (!PyBytes_CheckExact(text)) {
        PyErr_SetString(PyExc_TypeError, "bytes expected");
        return NULL;
    }
    char out[LONGEST];
    const unsigned char *data = (const unsigned char *)PyBytes_AS_STRING(text);
    Py_ssize_t length = bones_of(data, PyBytes_GET_SIZE(text), out);
    return length < 0 ? Py_NewRef(text) : PyBytes_FromStringAndSize(out, length);
}

static PyMethodDef functions[] = {
    {"skeleton", skeleton, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_skeleton", NULL, 0, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__skeleton(void) {
    learn_characters();
    return PyModuleDef_Init(&definition);
}
