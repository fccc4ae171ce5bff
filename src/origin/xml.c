#include "origin/xml.h"

#include <expat.h>
#include <limits.h>
#include <string.h>

struct parse {
    XML_Parser parser;
    xml_element *element;
    void *context;
    struct error *err;
    bool failed; /* err is set, by us or by the callback */
    size_t depth;
    size_t path_len, lens[XML_DEPTH_MAX]; /* of the path without the element at this depth */
    char path[XML_PATH_MAX + 1];
    size_t text_len;
    char text[XML_TEXT_MAX + 1];
};

static void refuse(struct parse *p, const char *why)
{
    if (!p->failed)
        error_set(p->err, ERROR_CORRUPT, "the XML of the answer %s", why);
    p->failed = true;
    XML_StopParser(p->parser, XML_FALSE);
}

static void begin_element(void *context, const XML_Char *name, const XML_Char **attributes)
{
    (void)attributes;
    struct parse *p = context;
    size_t len = strlen(name), slash = p->depth > 0;
    if (p->depth == XML_DEPTH_MAX || len + slash > XML_PATH_MAX - p->path_len) {
        refuse(p, "is nested too deeply");
        return;
    }
    p->lens[p->depth++] = p->path_len;
    if (slash)
        p->path[p->path_len++] = '/';
    memcpy(p->path + p->path_len, name, len + 1);
    p->path_len += len;
    p->text_len = 0;
}

static void take_text(void *context, const XML_Char *text, int len)
{
    struct parse *p = context;
    if ((size_t)len > XML_TEXT_MAX - p->text_len) {
        refuse(p, "has too long a text");
        return;
    }
    memcpy(p->text + p->text_len, text, (size_t)len);
    p->text_len += (size_t)len;
}

static void end_element(void *context, const XML_Char *name)
{
    (void)name;
    struct parse *p = context;
    if (p->failed)
        return;
    p->text[p->text_len] = '\0';
    if (p->element(p->context, p->path, p->text, p->err) < 0) {
        p->failed = true;
        XML_StopParser(p->parser, XML_FALSE);
        return;
    }
    p->path_len = p->lens[--p->depth];
    p->path[p->path_len] = '\0';
    p->text_len = 0;
}

/* No entity but XML's own can be there then. */
static void begin_doctype(
    void *context, const XML_Char *name, const XML_Char *system_id, const XML_Char *public_id, int has_subset)
{
    (void)name, (void)system_id, (void)public_id, (void)has_subset;
    refuse(context, "has a document type");
}

int xml_parse(struct bytes document, xml_element *element, void *context, struct error *err)
{
    if (document.len > INT_MAX)
        return error_set(err, ERROR_CORRUPT, "the XML of the answer is too long");
    struct parse p = {
        .parser = XML_ParserCreate("UTF-8"), .element = element, .context = context, .err = err};
    if (p.parser == NULL)
        return error_set(err, ERROR_INTERNAL, "expat gives no parser");
    XML_SetUserData(p.parser, &p);
    XML_SetElementHandler(p.parser, begin_element, end_element);
    XML_SetCharacterDataHandler(p.parser, take_text);
    XML_SetStartDoctypeDeclHandler(p.parser, begin_doctype);
    enum XML_Status status = XML_Parse(p.parser, (const char *)document.data, (int)document.len, XML_TRUE);
    if (status != XML_STATUS_OK && !p.failed)
        refuse(&p, XML_ErrorString(XML_GetErrorCode(p.parser)));
    XML_ParserFree(p.parser);
    return p.failed ? -1 : 0;
}
