/* survey.h - a folder looked at whole: everything that is wrong with it, in one go. */
#ifndef WANE_SURVEY_H
#define WANE_SURVEY_H

#include "runtime/model/model.h"
#include "runtime/save/packing.h"

typedef struct {
    wane_checkpoint *checkpoint; /* NULL where the weights cannot be opened; retained */
    const wane_packing *packing; /* that wane reads its codes with; NULL where it has none */
    wane_findings all;
    size_t files; /* so many of all are of config.json and the files; the others of tensors */
} wane_survey;

/* Headers only. EOOM or EINTERRUPTED where it could not be done, else OK: what is wrong is in out,
 * which is the caller's to clear also on failure. */
wane_status wane_survey_folder(const char *dir, wane_survey *out, wane_err *e);
void wane_survey_clear(wane_survey *);

#endif
